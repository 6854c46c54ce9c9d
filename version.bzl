"""The version of dind-cluster itself, by https://semver.org: CHANGELOG.md says what it has."""

VERSION = "0.6.0"
