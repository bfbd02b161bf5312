// Package reason is why the proxy itself answers: the table of codes with what goes with each (table.go), the failures
// that end exchanges (failure.go), and how an answer is written (answer.go). Errors of the guard, of certificates and of
// the network become a Failure here (errors.go) and nowhere else.
//
// Whoever fails a request makes a Failure, says with Happened what has become of the request by then, and writes it with
// a Config. Logs and metrics take what they show from the same Failure.
package reason
