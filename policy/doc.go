// Package policy decides who may send where: the clients of the configuration, what each may reach and how often, the
// destinations with rules of their own, and the breaker of those that cannot be reached.
package policy
