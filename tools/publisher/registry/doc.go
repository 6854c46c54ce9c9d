// Package registry talks to one registry: credentials, what may go over plain HTTP, which failures
// are worth another try, and what a failure means to the user. go-containerregistry speaks the
// protocol.
package registry
