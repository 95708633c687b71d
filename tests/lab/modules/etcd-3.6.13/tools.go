//go:build tools

// Package etcd names the programs that are built, so that go.mod and go.sum pin all they are made of.
package etcd

import (
	_ "go.etcd.io/etcd/server/v3"
)
