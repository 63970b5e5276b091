// Package e2e runs the images as a user does and proves what their READMEs
// promise. Its tests need a Docker engine and the build tag e2e:
//
//	make e2e
//
// They build the images first, clean up after themselves, and show the logs of
// their containers when they fail. Without an engine they skip, unless
// E2E_REQUIRED=1.
package e2e
