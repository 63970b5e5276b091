package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"time"
)

// burn is a program that does nothing but take processors: as many as its argument
// says (0.5 is half of one), until it is killed. Benchmarks run it beside servers.
func burn() {
	share, err := strconv.ParseFloat(os.Args[1], 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	const slice = 10 * time.Millisecond
	threads := max(1, int(math.Ceil(share)))
	busy := time.Duration(share / float64(threads) * float64(slice))
	for range threads {
		go func() {
			for {
				for began := time.Now(); time.Since(began) < busy; {
				}
				time.Sleep(slice - busy) // 0 returns at once
			}
		}()
	}
	select {}
}
