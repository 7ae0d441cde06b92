//go:build tools

package conformance

// What the suite's Pods run; named here for go.sum to hold what it is built from.
import _ "sigs.k8s.io/gateway-api/conformance/echo-basic"
