// Package docker drives a Docker engine through the docker command line.
//
// The command line rather than the engine's API, so that whatever makes
// `docker ps` work for a person (contexts, DOCKER_HOST, an ssh tunnel, a TLS
// set-up) works here too. Answers are asked for as JSON and checked for the fields
// that callers rely on; a failed command becomes an *Error that says what the
// command was for and what Docker answered.
package docker
