package e2e

import (
	"sync"
	"testing"
)

// TestLimitsInTime runs the tests of limits in time that do little but wait, beside one another and beside nothing else:
// on a machine that is busy with the others, limits would strike that must not.
func TestLimitsInTime(t *testing.T) {
	for _, part := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"PipeliningFlood", testPipeliningFlood}, // the longest first
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
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.run(t)
		})
	}
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
