//go:build tools

// Package cniflannel names the programs that are built, so that go.mod and go.sum pin all they are made of.
package cniflannel

import (
	_ "github.com/containernetworking/plugins/plugins/meta/flannel"
)
