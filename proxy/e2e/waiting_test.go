package e2e

import (
	"sync"
	"testing"
)

// part is a test that is run by another one, beside others of its kind.
type part struct {
	name string
	run  func(t *testing.T)
}

// TestLimitsInTime runs the tests of limits in time that do little but wait, beside one another and beside nothing else:
// on a machine that is busy with the others, limits would strike that must not.
func TestLimitsInTime(t *testing.T) {
	together(t, []part{
		{"PipeliningFlood", testPipeliningFlood},
		{"HTTPSListenerSlowReader", testHTTPSListenerSlowReader},
		{"DeafClientsEverywhere", testDeafClientsEverywhere},
		{"InspectedLimits", testInspectedLimits},
		{"SlowReadingClient", testSlowReadingClient},
		{"TunnelIsClosedAtAQuietMoment", testTunnelIsClosedAtAQuietMoment},
		{"TrickledRecord", testTrickledRecord},
		{"SlowUploadIsNotIdle", testSlowUploadIsNotIdle},
		{"ReadTimeoutRolls", testReadTimeoutRolls},
		{"ClientTimeoutRollsWithinTheBody", testClientTimeoutRollsWithinTheBody},
		{"TunnelIdleTimeoutRolls", testTunnelIdleTimeoutRolls},
		{"HTTPSListenerEnd", testHTTPSListenerEnd},
		{"ConnectTimeout", testConnectTimeout},
		{"TLSHandshakeTimeout", testTLSHandshakeTimeout},
		{"ReadTimeoutOnSilence", testReadTimeoutOnSilence},
		{"ReadTimeoutAfterTheAnswerHasBegun", testReadTimeoutAfterTheAnswerHasBegun},
		{"ConnectionLifetime", testConnectionLifetime},
		{"HalfTheLifetimeEndsReuse", testHalfTheLifetimeEndsReuse},
		{"IdleConnectionsAreClosed", testIdleConnectionsAreClosed},
		{"NoRetryOnceAnAnswerHasBegun", testNoRetryOnceAnAnswerHasBegun},
		{"NobodyAccepts", testNobodyAccepts},
		{"ClientThatDoesNotRead", testClientThatDoesNotRead},
		{"ClientTimeout", testClientTimeout},
		{"ClientTimeoutInTheTLSHandshake", testClientTimeoutInTheTLSHandshake},
		{"ClientIdleTimeout", testClientIdleTimeout},
		{"ProxyProtocolHasATimeLimit", testProxyProtocolHasATimeLimit},
		{"HTTPSListenerSlowHandshake", testHTTPSListenerSlowHandshake},
		{"InterceptSlowHandshake", testInterceptSlowHandshake},
		{"InterceptFailures", testInterceptFailures},
		{"TunnelLifetime", testTunnelLifetime},
		{"TunnelEndsWhoeverHangs", testTunnelEndsWhoeverHangs},
		{"TunnelIdleTimeout", testTunnelIdleTimeout},
		{"TunnelIdleAfterAnAnswer", testTunnelIdleAfterAnAnswer},
		{"AnswerWhileTheUploadIsStuck", testAnswerWhileTheUploadIsStuck},
		{"TLSLargeRequest", testTLSLargeRequest},
		{"SlowHeadsEverywhere", testSlowHeadsEverywhere},
		{"DrippingInEveryPhase", testDrippingInEveryPhase},
	})
}

// TestDestinationsThatGoWrong runs the tests of destinations that go wrong in every way there is, of which as many wait
// for a limit as do not, beside one another and beside nothing else.
func TestDestinationsThatGoWrong(t *testing.T) {
	together(t, []part{
		{"BodiesWithoutEnd", testBodiesWithoutEnd},
		{"EveryPhase", testEveryPhase},
		{"TLSEveryPhase", testTLSEveryPhase},
		{"TLSEveryPhaseOfTheHandshake", testTLSEveryPhaseOfTheHandshake},
	})
}

// together runs parts beside one another, however many there are.
func together(t *testing.T, parts []part) {
	t.Helper()
	allAtOnce(t, func(run func(name string, test func(t *testing.T))) {
		for _, p := range parts {
			run(p.name, p.run)
		}
	})
}

// allAtOnce runs the subtests that begin gives to run beside one another, however many there are, and returns once all
// have ended. It is for those that wait: with t.Parallel most would first wait for their turn.
func allAtOnce(t *testing.T, begin func(run func(name string, test func(t *testing.T)))) {
	t.Helper()
	var running sync.WaitGroup
	begin(func(name string, test func(t *testing.T)) {
		running.Go(func() { t.Run(name, test) }) // awaited below
	})
	running.Wait()
}
