"""Downloads locked Debian packages from the mirror that the machine uses."""

# Debian's main archive, which the lock does not name, and the one of security updates.
_MAIN = "debian"

_NO_MIRROR = """\
fetching {name}: no mirror of the archive {archive} is known.
This machine's apt sources name none. Set {variable} to the URL of one (it ends in /{archive}) and start again:
  export {variable}=…
In a snapshot archive's URL, {{snapshot}} stands for the date in the lock."""

_VARIABLES = {
    _MAIN: "DEBIAN_MIRROR",
    "debian-security": "DEBIAN_SECURITY_MIRROR",
}

def _mirror(ctx, package):
    """Finds the mirror to fetch a package from.

    Which one it is does not matter to what is fetched, since the lock has the hash. So it is no input of a repository,
    and another mirror fetches nothing anew.

    Args:
      ctx: the repository context.
      package: the package's dict, as read_lock gives it.

    Returns:
      The root of the package's archive, without a slash at the end.
    """
    result = ctx.execute(["bash", str(ctx.path(Label("//rules/private/debian:mirrors.sh")))], timeout = 60)
    if result.return_code != 0:
        fail("fetching {}: finding a mirror: {}".format(package["name"], result.stderr))
    wanted = package.get("archive", _MAIN)
    for line in result.stdout.splitlines():
        archive, _, url = line.partition(" ")
        if archive == wanted:
            return url.replace("{snapshot}", package["snapshot"])
    fail(_NO_MIRROR.format(name = package["name"], archive = wanted, variable = _VARIABLES[wanted]))

# The characters from 32 on.
_ASCII = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"

def _unescape(text):
    parts = text.split("%")
    return parts[0] + "".join([_ASCII[int(part[:2], 16) - 32] + part[2:] for part in parts[1:]])

def _login(url):
    """Takes user and password out of a URL, so that they are in no message.

    Args:
      url: a URL, perhaps http://USER:PASSWORD@HOST/….

    Returns:
      The URL without them, and what `auth` of ctx.download wants for it, None if there are none.
    """
    scheme, _, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    login, at, host = host.rpartition("@")
    if not at:
        return url, None
    user, _, password = login.partition(":")
    return scheme + "://" + host + slash + path, {"type": "basic", "login": _unescape(user), "password": _unescape(password)}

def download_package(ctx, lock, package, output):
    """Downloads one package and checks its hash.

    Args:
      ctx: the repository context.
      lock: label of the lock, for messages.
      package: the package's dict, as read_lock gives it.
      output: file to write.
    """
    mirror, login = _login(_mirror(ctx, package))
    url = mirror + "/" + package["path"].replace("+", "%2B").replace("~", "%7E")
    result = ctx.download(
        url = url,
        auth = {url: login} if login else {},
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
The warning above has the mirror's answer. If the package is gone from the mirror, lock its successor:
  scripts/lock debian {list}
or set {variable} to a snapshot archive's URL, with {{snapshot}} for the date. If the hash differs, find out why first.""".format(
            name = package["name"],
            version = package["version"],
            lock = lock,
            path = package["path"],
            sha256 = package["sha256"],
            mirror = mirror,
            variable = _VARIABLES[package.get("archive", _MAIN)],
            list = list_name,
        ))

def read_lock(ctx, label):
    """Reads a lock.

    Args:
      ctx: the repository context.
      label: label of the NAME.lock.json file.

    Returns:
      A dict from package name to the package's dict: name, version, archive (left out: debian), path, sha256 and the
      lock's snapshot.
    """
    lock = json.decode(ctx.read(label))
    return {p["name"]: dict(p, snapshot = lock["snapshot"]) for p in lock["packages"]}
