#!/usr/bin/env bash
# Brings the container images that the integration tests use to the local Docker engine:
#   images.sh [kafka] [clickhouse] [versitygw] [registry] [postgres] [ryuk]      default: all
#
# Where a container registry answers they are pulled. Where none does, or with IMAGES=build, images of the same names are
# built from package registries alone: the distribution's packages for a base, Maven for Kafka, npm for the ClickHouse
# engine, Go for the reaper and the S3 gateway. That needs root on Debian (amd64). IMAGES=pull never builds.
# An image that exists is left alone, unless it was built here from another recipe. Downloads are kept in
# ${XDG_CACHE_HOME:-$HOME/.cache}/ingestd.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
KAFKA_IMAGE=apache/kafka:4.3.1
CLICKHOUSE_IMAGE=clickhouse/clickhouse-server:26.7
VERSITYGW_IMAGE=versity/versitygw:v1.8.0
POSTGRES_IMAGE=postgres:15
REGISTRY_IMAGE=apicurio/apicurio-registry-mem:2.6.13.Final
RYUK_IMAGE=testcontainers/ryuk:0.14.0
CHDB_VERSION=26.7.3-stable.1
MAVEN_COPY=org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies
cache=${XDG_CACHE_HOME:-${HOME:?HOME or XDG_CACHE_HOME must be set}/.cache}/ingestd
# The engine of the distribution has no BuildKit.
export DOCKER_BUILDKIT=0
say() { echo "images: $* (+${SECONDS}s)" >&2; }
die() { echo "images: $*" >&2; exit 1; }

image_of() {
    case $1 in
    kafka) echo "$KAFKA_IMAGE" ;;
    clickhouse) echo "$CLICKHOUSE_IMAGE" ;;
    ryuk) echo "$RYUK_IMAGE" ;;
    versitygw) echo "$VERSITYGW_IMAGE" ;;
    registry) echo "$REGISTRY_IMAGE" ;;
    postgres) echo "$POSTGRES_IMAGE" ;;
    base) echo ingestd-base:local ;;
    *) die "unknown image $1: kafka, clickhouse, versitygw, registry, postgres or ryuk" ;;
    esac
}

# bare NAME: its image holds one static program and nothing of the distribution.
bare() { [ "$1" = ryuk ] || [ "$1" = versitygw ]; }

# recipe NAME: a digest of everything that decides what a built image holds, this script's comments left out.
recipe() {
    {
        bare "$1" || { declare -f base base_list jre; echo "$BASE_WANTED $BASE_UNWANTED $BASE_LINKED"; }
        [ "$1" = base ] || { declare -f context; echo "$CHDB_VERSION"; find "$here/$1" -type f ! -name '*_test.go' | LC_ALL=C sort | xargs cat; declare -f "context_$1" || true; }
    } | sha256sum | cut -c1-16
}

# ready NAME: the image exists, and was pulled or built from this recipe.
ready() {
    local built
    built=$(docker image inspect -f '{{index .Config.Labels "ingestd.recipe"}}' "$(image_of "$1")" 2>/dev/null) || return 1
    [ -z "$built" ] || [ "$built" = "$(recipe "$1")" ]
}

# --- pulling ---

# pull NAME SECONDS
pull() { timeout "$2" docker pull -q "$(image_of "$1")" >/dev/null 2>"$work/pull.log"; }

# reachable: the smallest image can be pulled. Its pull is the only probe that also knows the engine's mirrors and proxies.
reachable() {
    local answer=$cache/no-registry
    # A registry that did not answer is not asked again for an hour.
    [ "${IMAGES:-}" != pull ] && [ -n "$(find "$answer" -mmin -60 2>/dev/null)" ] && return 1
    if pull ryuk 20; then rm -f "$answer"; return 0; fi
    say "no container registry answers: $(tail -n 1 "$work/pull.log" | cut -c1-160)"
    touch "$answer"; return 1
}

# --- building ---

lists() {
    apt-cache show base-files >/dev/null 2>&1 && return
    apt-get update -qq >"$work/apt.log" 2>&1 || { tail -n 5 "$work/apt.log" >&2; die "apt-get update failed"; }
}

can_build() {
    [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null ||
        die "no container registry answers, and building the images needs root on Debian"
    [ "$(dpkg --print-architecture)" = amd64 ] || die "no container registry answers, and the ClickHouse engine is packaged for amd64 only"
}

programs() { # NAME...
    local name wanted=()
    for name in "$@"; do
        case $name in
        kafka | registry) wanted+=(mvn) ;;
        clickhouse) wanted+=(npm cc) ;;
        esac
    done
    [ ${#wanted[@]} = 0 ] || "$root/tools/scripts/need.sh" "${wanted[@]}"
}

fetch_kafka() {
    local libs=$cache/kafka-libs want
    want=$(sha256sum "$here/kafka/pom.xml" | cut -c1-16)
    [ "$(cat "$libs/.pom" 2>/dev/null)" != "$want" ] || return 0
    rm -rf "$libs.new"; mkdir -p "$libs.new" "$work/pom"; cp "$here/kafka/pom.xml" "$work/pom/"
    mvn -q -B -f "$work/pom/pom.xml" "$MAVEN_COPY" -DincludeScope=runtime -DoutputDirectory="$libs.new" >"$work/mvn.log" 2>&1 ||
        { tail -n 20 "$work/mvn.log" >&2; die "Maven could not fetch the Kafka jars"; }
    echo "$want" >"$libs.new/.pom"
    rm -rf "$libs"; mv "$libs.new" "$libs"
    say "Kafka jars: $(find "$libs" -name '*.jar' | wc -l), $(du -sm "$libs" | cut -f1) MB"
}

fetch_clickhouse() {
    local dir=$cache/chdb-$CHDB_VERSION
    [ ! -s "$dir/libchdb.so" ] || return 0
    rm -rf "$dir.new"; mkdir -p "$dir.new"
    (cd "$dir.new" && npm pack --silent "@chdb/lib-linux-x64-gnu@$CHDB_VERSION" >/dev/null 2>"$work/npm.log") ||
        { tail -n 5 "$work/npm.log" >&2; die "npm could not fetch the ClickHouse engine"; }
    say "ClickHouse engine fetched"
    tar -xzf "$dir.new"/*.tgz -C "$dir.new" --strip-components=1 --wildcards '*/libchdb.so' && rm -f "$dir.new"/*.tgz
    [ -s "$dir.new/libchdb.so" ] || die "the package of the ClickHouse engine holds no libchdb.so"
    rm -rf "$dir"; mv "$dir.new" "$dir"
    say "ClickHouse engine: $(du -sm "$dir" | cut -f1) MB"
}

fetch_registry() {
    local dir=$cache/registry-${REGISTRY_IMAGE#*:}
    [ ! -d "$dir" ] || return 0
    rm -rf "$dir.new"; mkdir -p "$dir.new"
    mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -Dmdep.useBaseVersion=true -DoutputDirectory="$dir.new" \
        -Dartifact="io.apicurio:apicurio-registry-app:${REGISTRY_IMAGE#*:}:tar.gz:all" >"$work/mvn-registry.log" 2>&1 ||
        { tail -n 20 "$work/mvn-registry.log" >&2; die "Maven could not fetch the schema registry"; }
    tar -xzf "$dir.new"/*.tar.gz -C "$dir.new" && rm -f "$dir.new"/*.tar.gz
    mv "$dir.new" "$dir"
    say "schema registry: $(du -sm "$dir" | cut -f1) MB"
}
# context_NAME DIR: as context, for one image alone.
context_registry() { cp -r "$cache/registry-${REGISTRY_IMAGE#*:}" "$1/app"; }

# The server, its client and what they link beyond the base; the rest of the packages' closure is for people at a terminal.
POSTGRES_WANTED="libpq5 libicu72 libxml2 libxslt1.1 libldap-2.5-0 libsasl2-2 libssl3 liblz4-1 libzstd1 libstdc++6 libgcc-s1 libpam0g libuuid1
    libedit2 libreadline8 libtinfo6 libbsd0 libmd0 liblzma5 libgnutls30 libp11-kit0 libidn2-0 libunistring2 libtasn1-6 libnettle8 libhogweed6
    libgmp10 libffi8 libgcrypt20 libgpg-error0 libsystemd0 libaudit1 libcap-ng0 libkeyutils1 libcom-err2 libgssapi-krb5-2 libkrb5-3 libk5crypto3
    libkrb5support0 zlib1g tzdata"
fetch_postgres() {
    local dir=$cache/postgres-${POSTGRES_IMAGE#*:} v=${POSTGRES_IMAGE#*:} package
    [ ! -d "$dir" ] || return 0
    lists
    apt-cache show "postgresql-$v" >/dev/null 2>&1 || die "the distribution has no postgresql-$v"
    rm -rf "$dir.new"; mkdir -p "$dir.new/debs" "$dir.new/root"
    # shellcheck disable=SC2086 # a list of words
    (cd "$dir.new/debs" && apt-get download -qq -o APT::Sandbox::User=root "postgresql-$v" "postgresql-client-$v" $POSTGRES_WANTED >"$work/apt-postgres.log" 2>&1) ||
        { tail -n 5 "$work/apt-postgres.log" >&2; die "apt-get could not download the packages of PostgreSQL"; }
    for package in "$dir.new/debs"/*.deb; do
        # What lies in /lib goes where the base has it.
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$dir.new/root" --transform='s,^\./lib/,./usr/lib/,' --exclude=./usr/share/man --exclude=./usr/share/doc \
            --exclude=./usr/share/locale --exclude=./etc --exclude='*/bitcode'
    done
    rm -rf "$dir.new/debs" "$dir.new/root/lib" "$dir.new/root/run" "$dir.new/root/var"
    mv "$dir.new" "$dir"
    say "PostgreSQL: $(du -sm "$dir" | cut -f1) MB"
}
context_postgres() { cp -r "$cache/postgres-${POSTGRES_IMAGE#*:}/root" "$1/root"; }

fetch_ryuk() { :; }
fetch_versitygw() { :; }

# The base: the closure of a few packages, less what only maintainer scripts and a desktop need; unpacked, not configured.
BASE_WANTED="base-files base-passwd bash coreutils grep sed findutils util-linux procps iproute2 hostname"
BASE_UNWANTED='perl|usrmerge|debconf|^dpkg$|init-system-helpers|fonts-|fontconfig|alsa|asound|avahi|cups|gnutls|harfbuzz|glib2.0|graphite|p11|hogweed|nettle|nss3|nspr|sqlite3|pcsc|unistring|idn2|ca-certificates|^openssl$|krb5|gssapi|java-common'
# iproute2 links libtirpc and libbpf, which link the Kerberos libraries.
BASE_LINKED="libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0"

base_list() { # JRE
    : >"$work/nothing"
    # shellcheck disable=SC2086 # lists of words
    {
        apt-get -s install --no-install-recommends -o Dir::State::status="$work/nothing" $BASE_WANTED "$1" 2>/dev/null |
            awk '/^Inst/{print $2}' | grep -vE "$BASE_UNWANTED"
        printf '%s\n' $BASE_LINKED
    } | sort -u
}

jre() {
    local v
    for v in 17 21 25; do
        if apt-cache show "openjdk-$v-jre-headless" >/dev/null 2>&1; then echo "openjdk-$v-jre-headless"; return; fi
    done
    die "the distribution has no openjdk-17-jre-headless, nor a newer one"
}

base() {
    if ready base; then return; fi
    lists
    local r=$work/root debs=$cache/debs package d
    package=$(jre)
    mkdir -p "$debs" "$r"/{usr/bin,usr/sbin,usr/lib,usr/lib64,etc,proc,sys,dev,run,root,tmp}
    for d in bin sbin lib lib64; do ln -s "usr/$d" "$r/$d"; done
    chmod 1777 "$r/tmp"
    base_list "$package" >"$work/list"
    # Names and versions that the lists know now; what lies in the cache from before is not fetched again.
    (cd "$debs" && xargs -a "$work/list" apt-get download -qq -o APT::Sandbox::User=root >"$work/apt.log" 2>&1) ||
        { tail -n 5 "$work/apt.log" >&2; die "apt-get could not download the packages of the base image"; }
    say "base packages: $(wc -l <"$work/list")"
    while read -r package; do
        # The newest file of a package: an older version may lie beside it.
        d=$(find "$debs" -name "${package}_*.deb" -printf '%T@ %p\n' | sort -rn | sed -n '1s/^[^ ]* //p')
        dpkg-deb --fsys-tarfile "$d" | tar -x -C "$r" --keep-directory-symlink --exclude=./usr/share/man --exclude=./usr/share/doc \
            --exclude=./usr/share/locale --exclude='./usr/lib/jvm/*/man'
    done <"$work/list"
    cp "$r/usr/share/base-passwd/passwd.master" "$r/etc/passwd"
    cp "$r/usr/share/base-passwd/group.master" "$r/etc/group"
    ln -sf bash "$r/usr/bin/sh"; ln -sf mawk "$r/usr/bin/awk"
    d=$(find "$r/usr/lib/jvm" -path '*/bin/java' -type f | head -n 1)
    ln -sf "${d#"$r"}" "$r/usr/bin/java"
    tar -C "$r" -c . | docker import -c 'ENV LANG=C.UTF-8' -c "LABEL ingestd.recipe=$(recipe base)" - "$(image_of base)" >/dev/null
    say "base image"
}

# context NAME DIR: puts into DIR what the image's Dockerfile copies.
context() {
    cp -r "$here/$1/." "$2/"
    case $1 in
    kafka) mkdir "$2/libs"; cp "$cache/kafka-libs"/*.jar "$2/libs/" ;;
    clickhouse)
        ln "$cache/chdb-$CHDB_VERSION/libchdb.so" "$2/libchdb.so" 2>/dev/null || cp "$cache/chdb-$CHDB_VERSION/libchdb.so" "$2/libchdb.so"
        cc -O2 -o "$2/launcher" "$here/clickhouse/launcher.c" -ldl
        ;;
    versitygw) (cd "$here/versitygw" && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$2/versitygw" github.com/versity/versitygw/cmd/versitygw) ;;
    ryuk) (cd "$root" && CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o "$2/ryuk" ./integration/images/ryuk) ;;
    esac
}

build() { # NAME
    local dir=$work/context-$1 args=() old
    old=$(docker image inspect -f '{{.Id}}' "$(image_of "$1")" 2>/dev/null || true)
    bare "$1" || args=(--build-arg "BASE=$(image_of base)")
    mkdir "$dir"
    context "$1" "$dir"
    if declare -F "context_$1" >/dev/null; then "context_$1" "$dir"; fi
    docker build -q -t "$(image_of "$1")" --label "ingestd.recipe=$(recipe "$1")" "${args[@]}" "$dir" >"$work/$1.log" 2>&1 ||
        { tail -n 40 "$work/$1.log" >&2; die "docker build of $(image_of "$1") failed"; }
    rm -rf "$dir"
    # What a newer recipe replaced would otherwise lie about without a name; a container may still hold it.
    [ -z "$old" ] || docker rmi "$old" >/dev/null 2>&1 || true
    say "$(image_of "$1") built"
}

build_all() { # NAME...
    local name pids=()
    can_build
    say "building $*"
    programs "$@"
    for name in "$@"; do "fetch_$name" & pids+=($!); done
    case " $* " in *" kafka "* | *" clickhouse "* | *" registry "* | *" postgres "*) base ;; esac
    for name in "${pids[@]}"; do wait "$name" || exit 1; done
    for name in "$@"; do build "$name"; done
}

# --- main ---

[ $# -gt 0 ] || set -- ryuk clickhouse kafka versitygw registry postgres
docker version >/dev/null 2>&1 || die "no Docker engine answers"
mkdir -p "$cache"
exec 9>"$cache/images.lock"
flock -n 9 || { say "another run is at work, waiting for it"; flock 9; }
missing=()
for name in "$@"; do ready "$name" || missing+=("$name"); done
[ ${#missing[@]} -gt 0 ] || { say "all there: $*"; exit 0; }
work=$(mktemp -d "${TMPDIR:-/tmp}/ingestd-images.XXXXXX")
trap 'rm -rf "$work"' EXIT
to_build=()
if [ "${IMAGES:-}" = build ] || ! reachable; then
    [ "${IMAGES:-}" != pull ] || die "IMAGES=pull, and no container registry answers"
    to_build=("${missing[@]}")
else
    for name in "${missing[@]}"; do
        if pull "$name" 900; then say "$(image_of "$name") pulled"; continue; fi
        say "$(image_of "$name") could not be pulled: $(tail -n 1 "$work/pull.log" | cut -c1-160)"
        [ "${IMAGES:-}" != pull ] || exit 1
        to_build+=("$name")
    done
fi
[ ${#to_build[@]} = 0 ] || build_all "${to_build[@]}"
