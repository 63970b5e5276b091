package model

// Searches lists the standard searches. Each is complete and finds nothing: together
// they are what is known of the protocol.
func Searches() []Search {
	return []Search{
		{Name: "requests", Writes: 2, Loads: 2, Renews: 1, PassThrough: true},
		{Name: "requests, leases renewed at will", Writes: 1, Loads: 2, PassThrough: true},
		{Name: "a connection breaks", Writes: 2, Loads: 1, Breaks: 1, Renews: 1},
		{Name: "a crash or a fail-over", Writes: 2, Loads: 1, Faults: 1, Renews: 1},
		{Name: "a break and a fault, tickets", Writes: 1, Loads: 1, Breaks: 1, Faults: 1, Renews: 1, PassThrough: true},
		{Name: "synchronousWrite and a fault", Writes: 2, Loads: 1, Faults: 1, Renews: 1, Sync: true},
		{Name: "logout and a fault", Writes: 2, Loads: 1, Faults: 1, Renews: 1, Logout: true},
		{Name: "logout and tickets", Writes: 2, Loads: 2, Renews: 1, PassThrough: true, Logout: true},
		{Name: "ended from outside, and a fault", Writes: 1, Loads: 1, Faults: 1, Renews: 1, Admin: true},
		{Name: "expiry", Writes: 1, Loads: 2, Renews: 1, Expiry: true, PassThrough: true},
		{Name: "expiry and a break", Loads: 1, Breaks: 1, Renews: 1, Expiry: true},
		{Name: "locking", Writes: 2, Loads: 2, Renews: 1, Locking: true},
		{Name: "locking and a break", Writes: 2, Loads: 1, Breaks: 1, Renews: 1, Locking: true},
		{Name: "locking and a fault", Writes: 2, Loads: 1, Faults: 1, Renews: 1, Locking: true},
		{Name: "clocks drift", Writes: 2, Loads: 1, Renews: 2, Drift: 1, PassThrough: true},
		{Name: "progress after a break", Loads: 2, Breaks: 1, Renews: 1, Progress: true},
		{Name: "progress after a fault", Writes: 1, Loads: 1, Faults: 1, Renews: 1, Progress: true},
		{Name: "progress with locks", Writes: 2, Loads: 2, Renews: 1, Locking: true, Progress: true},
	}
}

// Mutation is a search without some rules, and what it finds.
type Mutation struct {
	Search
	Broken  Property // "": nothing; Because says why
	Steps   int      // the fewest into the fault
	Long    bool     // it takes more than a moment
	Because string
}

// Mutations lists what each rule is there for, in the order of the rules, and last what
// no rule promises.
func Mutations() []Mutation {
	return []Mutation{
		{Broken: TwoOwners, Steps: 14, Long: true, Search: without(Search{Writes: 1, Loads: 2, Breaks: 1, Renews: 1}, GenerationUp)},
		{Broken: TwoOwners, Steps: 14, Long: true, Search: without(Search{Writes: 1, Loads: 2, Breaks: 1, Renews: 1}, GenerationDown)},
		{Broken: LostCommit, Steps: 24, Long: true, Search: without(Search{Writes: 2, Loads: 1, Faults: 1, Renews: 1}, TokenUnique)},
		{Broken: StaleRead, Steps: 18, Search: without(Search{Writes: 1, Loads: 1, Renews: 1}, LeaseFromSending)},
		{Broken: StaleRead, Steps: 19, Long: true, Search: without(Search{Writes: 1, Loads: 1, Renews: 3}, RenewalMatched)},
		{Broken: StaleRead, Steps: 9, Search: without(Search{Writes: 1, Loads: 1, Renews: 1, Drift: 1}, Margin)},
		{Broken: TwoOwners, Steps: 7, Search: without(Search{Writes: 1, Loads: 1}, BootClock)},
		{Broken: TwoOwners, Steps: 14, Long: true, Search: without(Search{Writes: 1, Loads: 1, Faults: 1, Renews: 1}, LeadershipRenewals)},
		{Broken: StaleRead, Steps: 11, Long: true, Search: without(Search{Writes: 1, Loads: 1, Faults: 1, Renews: 1}, LeadershipLoads)},
		{Broken: StaleRead, Steps: 10, Search: without(Search{Writes: 1, Loads: 1, Renews: 1}, LapseDrops)},
		{Broken: StaleRead, Steps: 10, Search: without(Search{Writes: 1, Loads: 1, Renews: 1}, Drain)},
		{Search: without(Search{Writes: 1, Loads: 2, Renews: 1}, GrantLease),
			Because: "lapse-drops drops what was installed too late before it can be served"},
		{Broken: StaleRead, Steps: 17, Search: without(Search{Writes: 1, Loads: 3, Renews: 1}, WireOrder)},
		{Search: without(Search{Writes: 1, Loads: 2, Renews: 1}, GrantRecalled),
			Because: "wire-order lets no recall overtake its grant"},
		{Broken: TwoOwners, Steps: 14, Search: without(Search{Writes: 1, Loads: 3, Renews: 1}, WireOrder, GrantRecalled)},
		{Broken: StaleRead, Steps: 4, Search: without(Search{Writes: 1, Loads: 1, Renews: 1}, CreateWaits)},
		{Broken: WrongGive, Steps: 13, Long: true, Search: without(Search{Writes: 1, Loads: 3, Breaks: 1, Renews: 1}, GiveToken)},
		{Broken: NoProgress, Steps: 63, Search: without(Search{Loads: 2, Renews: 1, Progress: true}, RecallAnswered)},
		{Broken: NoProgress, Steps: 58, Search: without(Search{Loads: 1, Breaks: 1, Renews: 1, Progress: true}, RecallAgain)},
		{Broken: StaleRead, Steps: 9, Search: without(Search{Writes: 1, Loads: 1, Renews: 1}, CommitsFirst)},
		{Broken: StaleRead, Steps: 12, Search: without(Search{Writes: 1, Loads: 1, Renews: 1}, LateRecalls)},
		{Broken: StaleRead, Steps: 9, Search: without(Search{Writes: 1, Loads: 1, Renews: 1}, LateWaits)},
		{Broken: LostCommit, Steps: 17, Long: true, Search: without(Search{Writes: 2, Loads: 2, Renews: 1, PassThrough: true}, Versions)},
		{Broken: LostCommit, Steps: 17, Long: true, Search: without(Search{Writes: 2, Loads: 2, Renews: 1, PassThrough: true}, NoTokenOrder)},
		{Broken: FalseAnswer, Steps: 8, Search: without(Search{Writes: 1, Loads: 1, Breaks: 1, Renews: 1}, Remember)},
		{Broken: AppliedTwice, Steps: 8, Search: without(Search{Writes: 1, Loads: 1, Breaks: 1, Renews: 1}, Remember, Versions)},
		{Broken: FalseAnswer, Steps: 15, Long: true, Search: without(Search{Writes: 2, Faults: 1, Renews: 1}, HeldInOrder)},
		{Broken: Resurrection, Steps: 16, Search: without(Search{Writes: 2, Loads: 1, Renews: 1, PassThrough: true, Logout: true}, NeverCreates)},
		{Broken: Resurrection, Steps: 9, Search: without(Search{Writes: 1, Loads: 1, Renews: 1, PassThrough: true, Logout: true}, LogoutWaits)},
		{Broken: StaleRead, Steps: 11, Search: without(Search{Writes: 1, Loads: 1, Breaks: 1, Renews: 1}, Resend)},
		{Broken: StaleRead, Steps: 10, Search: without(Search{Writes: 1, Loads: 1, Faults: 1, Renews: 1, Sync: true}, CleanReads)},
		{Broken: BrokenLock, Steps: 9, Search: without(Search{Writes: 2, Loads: 1, Renews: 1, Locking: true}, Busy)},
		{Broken: NoProgress, Steps: 60, Search: without(Search{Writes: 1, Loads: 1, Renews: 1, Locking: true, Progress: true}, BusyEnds)},
		{Broken: StaleRead, Steps: 20, Long: true, Search: without(Search{Writes: 1, Loads: 1, Faults: 1, Renews: 1, Locking: true}, LocksAcknowledged)},
		{Broken: BrokenLock, Steps: 18, Search: without(Search{Writes: 2, Loads: 2, Renews: 1, Locking: true}, LateRefused)},
		{Broken: FalseAnswer, Steps: 12, Search: without(Search{Writes: 1, Loads: 1, Breaks: 1, Renews: 1, Locking: true}, RefusedRemembers)},
		{Broken: StaleRead, Steps: 11, Long: true, Search: without(Search{Writes: 1, Loads: 1, Breaks: 1, Faults: 1, Renews: 1}, CommitsBeforeClaim)},
		{Broken: NoProgress, Steps: 57, Search: without(Search{Loads: 1, Breaks: 1, Renews: 1, Progress: true}, ClaimToSame)},
		{Broken: StaleRead, Steps: 20, Long: true, Search: without(Search{Writes: 1, Loads: 1, Breaks: 1, Faults: 1, Renews: 1}, ClaimUnbroken)},
		{Broken: TwoOwners, Steps: 11, Search: without(Search{Writes: 1, Loads: 1, Faults: 1, Renews: 1}, ClaimAnswered)},
		{Broken: TwoOwners, Steps: 14, Long: true, Search: without(Search{Writes: 1, Loads: 2, Breaks: 1, Faults: 1, Renews: 1}, ClaimStartsLease)},
		{Broken: NoProgress, Steps: 59, Search: without(Search{Loads: 1, Breaks: 1, Renews: 1, Progress: true}, ClaimReleases)},
		{Long: true, Search: without(Search{Writes: 1, Loads: 1, Faults: 1, Renews: 1}, ClaimRefusals),
			Because: "what is refused was held under a lease that is over when the answer comes: lapse-drops drops it"},
		{Long: true, Search: without(Search{Writes: 1, Loads: 1, Faults: 1, Renews: 1}, ClaimInTime),
			Because: "the window is longer than any lease: lapse-drops drops what is claimed after it"},
		{Broken: TwoOwners, Steps: 9, Search: without(Search{Writes: 1, Loads: 1, Faults: 1, Renews: 1}, Window)},
		{Broken: StaleRead, Steps: 15, Long: true, Search: without(Search{Writes: 2, Loads: 2, Faults: 1, Renews: 1, PassThrough: true}, WindowHolds)},
		{Broken: Resurrection, Steps: 2, Search: without(Search{Writes: 1, Loads: 1, Renews: 1, Admin: true}, AdminRecalls)},
		{Broken: Resurrection, Steps: 7, Search: without(Search{Writes: 1, Loads: 1, Renews: 1, Expiry: true}, ExpiryRecalls)},
		{Broken: ExpiredInUse, Steps: 11, Search: without(Search{Writes: 1, Loads: 1, Renews: 1, Expiry: true}, ExpiryLooksAgain)},
		{Broken: ExpiredInUse, Steps: 11, Search: without(Search{Writes: 1, Loads: 1, Renews: 1, Expiry: true}, GiveTellsUse)},
		{Broken: ExpiredInUse, Steps: 13, Long: true, Search: without(Search{Writes: 1, Loads: 1, Breaks: 1, Renews: 1, Expiry: true}, ClaimTellsUse)},
		// An asynchronous write of a node that pauses for a lease may be seen late.
		{Broken: StaleRead, Steps: 9, Search: Search{Name: "a pause loses nothing", Writes: 1, Loads: 1, Renews: 1, Strict: true}},
	}
}

func without(c Search, list ...Rule) Search {
	c.Without = list
	c.Name = "without " + list[0].String()
	for _, r := range list[1:] {
		c.Name += ", " + r.String()
	}
	return c
}
