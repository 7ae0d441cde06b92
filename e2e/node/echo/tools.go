//go:build tools

// Package echo names what it is built from: the server and client that the Gateway API's suite runs in a mesh's Pods.
package echo

import (
	_ "istio.io/istio/pkg/test/echo/cmd/client"
	_ "istio.io/istio/pkg/test/echo/cmd/server"
)
