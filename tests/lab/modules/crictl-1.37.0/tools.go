//go:build tools

// Package crictl names the programs that are built, so that go.mod and go.sum pin all they are made of.
package crictl

import (
	_ "sigs.k8s.io/cri-tools/cmd/crictl"
)
