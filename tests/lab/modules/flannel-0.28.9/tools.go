//go:build tools

// Package flannel names the programs that are built, so that go.mod and go.sum pin all they are made of.
package flannel

import (
	_ "github.com/flannel-io/flannel"
	_ "github.com/flannel-io/flannel/cmd/install_conf"
)
