// Package terracotta is the root of the module: three container images that
// give any web application clustered sessions. Import
// github.com/terracotta-go/terracotta/websessions; the rest of the house is
// drawn in docs/architecture.md.
package terracotta
