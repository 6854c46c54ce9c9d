// Package docker drives a Docker engine through the docker command line.
//
// It uses the command line, not the engine's API, so that all that makes `docker ps` work
// (contexts, DOCKER_HOST, an ssh tunnel, TLS files) works here, too. The engine's own client
// (github.com/moby/moby/client v0.6.2) reads the environment alone; contexts and ssh would take
// docker/cli besides. It would add five modules, and a program with the same calls has 7.5 MB with
// it and 2.5 MB with this package (stripped, linux/amd64). Answers are asked for as JSON and
// checked for the fields that callers rely on; a failed command becomes an *Error that says what
// the command was for and what Docker answered.
package docker
