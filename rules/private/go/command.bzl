"""Runs the `go` command in repository rules."""

# What the go command needs to know of its user: the proxy, credentials and certificates.
_ENVIRONMENT = [
    "GOFLAGS",
    "GOMODCACHE",
    "GONOPROXY",
    "GOPATH",
    "GOPRIVATE",
    "GOPROXY",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "NO_PROXY",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "https_proxy",
    "http_proxy",
    "no_proxy",
]

def download_module(ctx, module, version, sum):
    """Fetches a module into Go's module cache and checks its hash.

    Args:
      ctx: the repository context.
      module: the module's path.
      version: its version.
      sum: its hash as in go.sum, `h1:…`.

    Returns:
      The directory of the unpacked module in the module cache.
    """
    go = ctx.which("go")
    if not go:
        fail("fetching {}@{}: no go command on PATH. Install Go 1.21 or later, or start Bazel with scripts/bazel.".format(module, version))
    environment = {name: ctx.os.environ[name] for name in _ENVIRONMENT if name in ctx.os.environ}

    # The lock holds the sum. The public checksum database does not know every module that the proxy
    # serves.
    environment["GONOSUMDB"] = "*"
    environment["GOTOOLCHAIN"] = "local"
    environment["GOWORK"] = "off"
    result = ctx.execute(
        [go, "mod", "download", "-json", "{}@{}".format(module, version)],
        environment = environment,
        working_directory = ".",
        timeout = 1200,
    )
    answer = json.decode(result.stdout) if result.stdout.startswith("{") else {}
    if result.return_code != 0:
        fail("fetching {}@{} through GOPROXY={}: {}".format(
            module,
            version,
            environment.get("GOPROXY", "(default)"),
            answer.get("Error", result.stderr),
        ))
    if answer["Sum"] != sum:
        fail("""{module}@{version} has the wrong hash.
  locked:  {locked}
  fetched: {fetched}
The module was changed after it was locked, or the lock is wrong. Find out which before you lock it anew.""".format(
            module = module,
            version = version,
            locked = sum,
            fetched = answer["Sum"],
        ))
    return ctx.path(answer["Dir"])

def copy_module(ctx, source, module, version, sum):
    """Copies an unpacked module into the repository, writable, since the module cache is read-only, and checks its hash.

    The go command compares a sum that the module cache remembers from the download, not the files
    that are there now.

    Args:
      ctx: the repository context. The repository must be empty.
      source: the module's directory.
      module: the module's path.
      version: its version.
      sum: its hash as in go.sum, `h1:…`.
    """
    hasher = str(ctx.path(Label("//rules/private/go:dirhash.sh")))
    result = ctx.execute(["cp", "-R", "--no-preserve=mode", str(source) + "/.", "."])
    if result.return_code != 0:
        fail("copying {}: {}".format(source, result.stderr))
    if module == "golang.org/toolchain":
        # A go command that switches to a toolchain of the module cache first puts a copy of each
        # _go.mod beside it, since no module can carry a go.mod in a directory (raceSafeCopy in
        # cmd/go/internal/toolchain/select.go). Not by find's -execdir, which refuses a PATH with a
        # relative directory.
        ctx.execute(["bash", "-c", """
            find . -name _go.mod -printf '%h\\0' | while IFS= read -r -d '' dir; do
              if cmp --silent "$dir/_go.mod" "$dir/go.mod"; then rm "$dir/go.mod"; fi
            done
        """])
    result = ctx.execute(["bash", hasher, ".", "{}@{}".format(module, version)])
    found = result.stdout.strip() or result.stderr.strip()
    if found != sum:
        fail("""{source} is not {module}@{version} as it was published: the files in Go's module cache were changed.
  locked: {locked}
  there:  {found}
Find out how if you can. To fetch the module anew: go clean -modcache.""".format(
            source = source,
            module = module,
            version = version,
            locked = sum,
            found = found,
        ))

def vendor_modules(ctx, module):
    """Fetches the dependencies of the module in the repository into its vendor directory, and checks all hashes.

    Args:
      ctx: the repository context, with the module's verified files.
      module: the module's path, for messages.
    """
    environment = {"GOFLAGS": "-mod=mod", "GONOSUMDB": "*", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    for command in [
        # -e: a module leaves out what only its own tests and nested modules need.
        ["vendor", "-e"],
        # `vendor` compares the sums that the module cache remembers with go.sum, `verify` those
        # with the files.
        ["verify"],
    ]:
        result = ctx.execute([ctx.which("go"), "mod"] + command, environment = environment, timeout = 1200)
        if result.return_code != 0:
            fail("""the dependencies of {}: go mod {}: {}
To fetch a modified module anew: go clean -modcache.""".format(module, command[0], result.stderr))
