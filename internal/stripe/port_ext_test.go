package stripe_test

import (
	"github.com/terracotta-go/terracotta/internal/stripe"
	"github.com/terracotta-go/terracotta/internal/testcluster"
)

func init() { stripe.FreePort = testcluster.FreePort }
