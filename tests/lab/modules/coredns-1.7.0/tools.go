//go:build tools

// Package coredns names the programs that are built, so that go.mod and go.sum pin all they are made of.
package coredns

import (
	_ "github.com/coredns/coredns"
)
