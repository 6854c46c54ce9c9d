// Package cli is what all programs begin and end with: signals, the message of an error, and the exit status.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// Usage is an error that shows how a program is called. It leads to exit status 2.
type Usage string

func (u Usage) Error() string { return "usage: " + string(u) }

// Main runs a program that ends early when its context does, and then the process: see End.
func Main(name string, run func(context.Context) error) {
	Exit(func(ctx context.Context) int { return status(name, run(ctx)) })
}

// End ends the process of a program that a signal may kill: with status 0, or with 1 and a message that begins with its name.
func End(name string, err error) { os.Exit(status(name, err)) }

// Signals returns those that ask a program to end: SIGINT, SIGTERM and SIGHUP, since a terminal that is closed leaves nothing
// half done either. A signal that is ignored is not among them, as nohup and a shell's background jobs want it; asking for it
// would bring it back (os/signal, Notify).
func Signals() []os.Signal {
	return slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
}

// Exit runs a program that prints its errors itself and ends the process with the status that it returns. The context ends
// with one of the Signals.
func Exit(run func(context.Context) int) {
	ctx := context.Background()
	if signals := Signals(); len(signals) > 0 { // none would mean all
		ctx, _ = signal.NotifyContext(ctx, signals...)
	}
	os.Exit(run(ctx))
}

func status(name string, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.As(err, new(Usage)):
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	return 1
}
