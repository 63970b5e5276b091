package model

// Rule is one rule of the protocol, by its number in docs/ownership.md.
type Rule uint8

const (
	GenerationUp Rule = iota
	GenerationDown
	TokenUnique
	LeaseFromSending
	RenewalMatched
	Margin
	BootClock
	LeadershipRenewals
	LeadershipLoads
	LapseDrops
	Drain
	GrantLease
	WireOrder
	GrantRecalled
	CreateWaits
	GiveToken
	RecallAnswered
	RecallAgain
	CommitsFirst
	LateRecalls
	LateWaits
	Versions
	NoTokenOrder
	Remember
	HeldInOrder
	NeverCreates
	LogoutWaits
	Resend
	CleanReads
	Busy
	BusyEnds
	LocksAcknowledged
	LateRefused
	RefusedRemembers
	CommitsBeforeClaim
	ClaimToSame
	ClaimUnbroken
	ClaimAnswered
	ClaimStartsLease
	ClaimReleases
	ClaimRefusals
	ClaimInTime
	Window
	WindowHolds
	AdminRecalls
	ExpiryRecalls
	ExpiryLooksAgain
	GiveTellsUse
	ClaimTellsUse
	rules
)

// Rules lists all rules with their names and what they say.
func Rules() []Rule {
	list := make([]Rule, rules)
	for i := range list {
		list[i] = Rule(i)
	}
	return list
}

func (r Rule) String() string { return ruleTexts[r].name }

// Says is the rule in one sentence.
func (r Rule) Says() string { return ruleTexts[r].says }

// RuleNamed returns the rule of that name.
func RuleNamed(name string) (Rule, bool) {
	for r, t := range ruleTexts {
		if t.name == name {
			return Rule(r), true
		}
	}
	return 0, false
}

var ruleTexts = [rules]struct{ name, says string }{
	GenerationUp:       {"generation-up", "with a new connection the active discards what it has not read from the old one"},
	GenerationDown:     {"generation-down", "with a new connection the node ignores what the old one still delivers"},
	TokenUnique:        {"token-unique", "a token is never given twice, not by a later active either"},
	LeaseFromSending:   {"lease-from-sending", "the node's lease runs from the sending of the renewal"},
	RenewalMatched:     {"renewal-matched", "an answer counts for the renewal that it answers, not for a later one"},
	Margin:             {"margin", "the active's lease is longer than the node's by the drift of clocks"},
	BootClock:          {"boot-clock", "the node's clock counts while its machine is suspended"},
	LeadershipRenewals: {"leadership-renewals", "a renewal is answered under a check of leadership begun after it was read"},
	LeadershipLoads:    {"leadership-loads", "a load is answered under a check of leadership begun after it was read"},
	LapseDrops:         {"lapse-drops", "a lease that ran out, even unnoticed, drops every ownership before a renewal counts"},
	Drain:              {"drain", "nothing is granted while a commit of the session waits or is not applied"},
	GrantLease:         {"grant-lease", "a grant is installed only under a valid lease"},
	WireOrder:          {"wire-order", "the node handles what the active sends in the order of the wire"},
	GrantRecalled:      {"grant-recalled", "a grant is not installed after a recall with its or a later token"},
	CreateWaits:        {"create-waits", "a session is agreed before its cookie is sent"},
	GiveToken:          {"give-token", "a give-back counts only for the grant that it names"},
	RecallAnswered:     {"recall-answered", "a node answers every recall, also of what it does not own"},
	RecallAgain:        {"recall-again", "an unanswered recall is sent again after a reconnect"},
	CommitsFirst:       {"commits-first", "a node's commits precede its give-back"},
	LateRecalls:        {"late-recalls", "a commit without the owner's token first recalls the owner"},
	LateWaits:          {"late-waits", "a response waits for its commit where the node no longer owns the session"},
	Versions:           {"versions", "a change that has not seen the last one is dropped"},
	NoTokenOrder:       {"no-token-order", "what a change has seen is told by versions, not by the order of tokens"},
	Remember:           {"remember", "a repeated commit gets its first outcome"},
	HeldInOrder:        {"held-in-order", "commits of one token are proposed in their order, held ones too"},
	NeverCreates:       {"never-creates", "a commit never brings an ended session back"},
	LogoutWaits:        {"logout-waits", "the end of a session is agreed before the response"},
	Resend:             {"resend", "commits are kept and sent again until they are acknowledged"},
	CleanReads:         {"clean-reads", "synchronousWrite: a response waits for every earlier commit that it may have read"},
	Busy:               {"busy", "sessionLocking: an owner gives nothing back while a request holds the lock"},
	BusyEnds:           {"busy-ends", "sessionLocking: the end of that request gives back what was recalled"},
	LocksAcknowledged:  {"locks-acknowledged", "sessionLocking: nothing is given back before the commits under it are acknowledged"},
	LateRefused:        {"late-refused", "sessionLocking: a commit without the owner's token is refused"},
	RefusedRemembers:   {"refused-remembers", "sessionLocking: the store refuses it, after it has looked for a first outcome"},
	CommitsBeforeClaim: {"commits-before-claim", "on a new connection unacknowledged commits precede the claim"},
	ClaimToSame:        {"claim-to-same", "a node claims also when it comes back to the same active"},
	ClaimUnbroken:      {"claim-unbroken", "only what was held under an unbroken lease is claimed"},
	ClaimAnswered:      {"claim-answered", "a node has come back with its claim, not with its connection"},
	ClaimStartsLease:   {"claim-starts-lease", "a new connection renews the lease with the claim's answer, not before"},
	ClaimReleases:      {"claim-releases", "what is not claimed is given back"},
	ClaimRefusals:      {"claim-refusals", "the answer to a claim lists what is refused"},
	ClaimInTime:        {"claim-in-time", "a claim after the window is refused"},
	Window:             {"window", "a new active waits for the claims of all nodes or for the longest lease"},
	WindowHolds:        {"window-holds", "until then commits wait, too"},
	AdminRecalls:       {"admin-recalls", "whoever ends a session from outside first recalls the owner"},
	ExpiryRecalls:      {"expiry-recalls", "expiry first recalls the owner"},
	ExpiryLooksAgain:   {"expiry-looks-again", "after the recall the active looks again whether the session is still due"},
	GiveTellsUse:       {"give-tells-use", "a give-back tells how long ago the session was used"},
	ClaimTellsUse:      {"claim-tells-use", "so does a claim, also of what was given back: that may not have arrived"},
}

// Property is a promise that the protocol keeps.
type Property string

const (
	TwoOwners    Property = "two-owners"     // two nodes own the session under valid leases
	StaleRead    Property = "stale-read"     // a request does not see what was promised before it began
	LostCommit   Property = "lost-commit"    // the store lacks an acknowledged commit
	AppliedTwice Property = "applied-twice"  // a commit changes the store a second time
	FalseAnswer  Property = "false-answer"   // a commit that the store has is answered as dropped
	Resurrection Property = "resurrection"   // an ended session is served or changed
	WrongGive    Property = "wrong-give"     // a give-back ends a grant that its node goes on using
	BrokenLock   Property = "broken-lock"    // two requests hold the lock, or one writes after it has lost it
	ExpiredInUse Property = "expired-in-use" // a session that was just used has expired
	NoProgress   Property = "no-progress"    // something waits for ever although nothing fails
)

// Properties lists all of them. Of several that break after as many steps, the first is told.
func Properties() []Property {
	return []Property{TwoOwners, StaleRead, LostCommit, AppliedTwice, FalseAnswer, Resurrection, WrongGive, BrokenLock, ExpiredInUse, NoProgress}
}

// check looks for broken promises that a state alone shows.
func (m *machine) check() {
	s := &m.s
	owners := 0
	locks := 0
	for i := range s.node {
		d := &s.node[i]
		if d.locked {
			locks++
		}
		if !d.owns || d.lease == 0 {
			continue
		}
		owners++
		if d.value&s.promised != s.promised && !s.gone {
			m.breaks(StaleRead)
		}
		if s.gone {
			m.breaks(Resurrection)
		}
	}
	switch {
	case owners > 1:
		m.broken = TwoOwners
	case locks > 1:
		m.breaks(BrokenLock)
	case !s.store.deleted && s.store.value&s.acked != s.acked:
		m.breaks(LostCommit)
	}
	if s.calmTicks == m.patience() {
		m.checkProgress()
	}
}

// patience is how many quiet ticks whatever waits may need: leases that run out one after the other.
func (m *machine) patience() uint8 { return 4 * m.activeLease() }

func (m *machine) checkProgress() {
	for i := range m.s.node {
		if !m.s.node[i].dead && m.s.node[i].loading {
			m.breaks(NoProgress)
		}
	}
	for i := range m.s.write {
		w := &m.s.write[i]
		if w.status == sent && (w.node == nobody || !m.s.node[w.node].dead) {
			m.breaks(NoProgress)
		}
	}
}

// checkRead looks at what a load of d was answered.
func (m *machine) checkRead(d *node, value uint8) {
	if value&d.promised != d.promised {
		m.breaks(StaleRead)
	}
	if d.gone {
		m.breaks(Resurrection)
	}
}
