package websessions

import "testing"

// StartCluster starts a real server for a test and returns the URI of a
// dataset. The external test package sets it, because the server's rooms import
// this package.
var StartCluster func(t testing.TB) (uri string)
