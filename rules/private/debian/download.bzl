"""Downloading locked Debian packages from whatever mirror the machine uses."""

_NO_MIRROR = """\
fetching Debian packages: no mirror is known.
This machine's apt sources name none. Set DEBIAN_MIRROR to the URL of one (it ends in /debian) and start again:
  export DEBIAN_MIRROR=…
In a snapshot archive's URL, {snapshot} stands for the date in the lock."""

def _sources(ctx):
    """Lists the Debian archives that the machine's apt sources name.

    Both formats are understood, the one-line one and deb822 (sources.list(5)).

    Args:
      ctx: the repository context.

    Returns:
      Archive roots, without a trailing slash, in the order found.
    """
    files = [ctx.path("/etc/apt/sources.list")]
    folder = ctx.path("/etc/apt/sources.list.d")
    if folder.exists:
        files += folder.readdir(watch = "no")
    mirrors = []
    for file in files:
        if not file.exists or not (file.basename.endswith(".list") or file.basename.endswith(".sources")):
            continue
        for line in ctx.read(file, watch = "no").split("\n"):
            line = line.split("#")[0].strip()
            if not (line.startswith("deb ") or line.startswith("URIs:")):
                continue
            for word in line.split(" "):
                url = word.rstrip("/")
                if (url.startswith("http://") or url.startswith("https://")) and url.endswith("/debian") and url not in mirrors:
                    mirrors.append(url)
    return mirrors

def mirrors(ctx, snapshot):
    """Lists the mirrors to try.

    Args:
      ctx: the repository context.
      snapshot: the date of the lock, as a snapshot archive writes it.

    Returns:
      Archive roots, at least one.
    """
    chosen = ctx.os.environ.get("DEBIAN_MIRROR", "")
    if chosen:
        return [chosen.rstrip("/").replace("{snapshot}", snapshot)]
    found = _sources(ctx)
    if not found:
        fail(_NO_MIRROR)
    return found

def download_package(ctx, lock, package, output):
    """Downloads one package and checks its hash.

    Args:
      ctx: the repository context.
      lock: label of the lock, for messages.
      package: struct or dict with name, version, path, sha256.
      output: file to write.
    """
    tried = mirrors(ctx, package["snapshot"])
    result = ctx.download(
        url = [m + "/" + package["path"].replace("+", "%2B").replace("~", "%7E") for m in tried],
        output = output,
        sha256 = package["sha256"],
        allow_fail = True,
        canonical_id = package["sha256"],
    )
    if not result.success:
        list_name = lock.name.removesuffix(".lock.json")
        fail("""could not fetch {name} {version}, locked in {lock}.
  path:    {path}
  sha256:  {sha256}
  mirrors: {mirrors}
The warnings above tell what each mirror answered. If the package is gone from the mirror, lock its successor:
  scripts/lock debian {list}
or set DEBIAN_MIRROR to a snapshot archive's URL, with {{snapshot}} for the date. If the hash differs, find out why first.""".format(
            name = package["name"],
            version = package["version"],
            lock = lock,
            path = package["path"],
            sha256 = package["sha256"],
            mirrors = ", ".join(tried),
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
