// Command whsentry is an HTTP forward proxy for webhooks: it connects to what its clients name, but never to what
// lies inside the network that it runs in. What it can be asked for is in internal/command.
package main

import (
	"os"

	"whsentry/internal/command"
)

func main() { os.Exit(command.Run(os.Args[1:])) }
