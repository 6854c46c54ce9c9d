"""Downloading locked Debian packages from whatever mirror the machine uses."""

_NO_MIRROR = """\
fetching Debian packages: no mirror is known.
This machine's apt sources name none. Set DEBIAN_MIRROR to the URL of one (it ends in /debian) and start again:
  export DEBIAN_MIRROR=…
In a snapshot archive's URL, {snapshot} stands for the date in the lock."""

def _mirror(ctx, snapshot):
    """Finds the mirror to use.

    Which one it is does not matter to what is fetched, since the lock has the hash. So it is no input of a repository,
    and another mirror fetches nothing anew.

    Args:
      ctx: the repository context.
      snapshot: the date of the lock, as a snapshot archive writes it.

    Returns:
      The archive's root, without a slash at the end.
    """
    result = ctx.execute(["bash", str(ctx.path(Label("//rules/private/debian:mirrors.sh")))], timeout = 60)
    if result.return_code != 0:
        fail("fetching Debian packages: finding a mirror: " + result.stderr)
    for line in result.stdout.splitlines():
        archive, _, url = line.partition(" ")
        if archive == "debian":
            return url.replace("{snapshot}", snapshot)
    fail(_NO_MIRROR)

def download_package(ctx, lock, package, output):
    """Downloads one package and checks its hash.

    Args:
      ctx: the repository context.
      lock: label of the lock, for messages.
      package: struct or dict with name, version, path, sha256.
      output: file to write.
    """
    mirror = _mirror(ctx, package["snapshot"])
    result = ctx.download(
        url = mirror + "/" + package["path"].replace("+", "%2B").replace("~", "%7E"),
        output = output,
        sha256 = package["sha256"],
        allow_fail = True,
        canonical_id = package["sha256"],
    )
    if not result.success:
        list_name = lock.name.removesuffix(".lock.json")
        fail("""could not fetch {name} {version}, locked in {lock}.
  path:   {path}
  sha256: {sha256}
  mirror: {mirror}
The warning above tells what the mirror answered. If the package is gone from the mirror, lock its successor:
  scripts/lock debian {list}
or set DEBIAN_MIRROR to a snapshot archive's URL, with {{snapshot}} for the date. If the hash differs, find out why first.""".format(
            name = package["name"],
            version = package["version"],
            lock = lock,
            path = package["path"],
            sha256 = package["sha256"],
            mirror = mirror,
            list = list_name,
        ))

def read_lock(ctx, label):
    """Reads a lock.

    Args:
      ctx: the repository context.
      label: label of the NAME.lock.json file.

    Returns:
      A dict from package name to the package's dict, with the lock's snapshot added.
    """
    lock = json.decode(ctx.read(label))
    return {p["name"]: dict(p, snapshot = lock["snapshot"]) for p in lock["packages"]}
