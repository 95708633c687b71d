#!/bin/bash
# Builds the seven programs of Kubernetes from Debian's source package, whose dependencies are all vendored.
# In the environment: UPSTREAM (1.20.2), WORK (scratch, several GB), OUT (receives the programs), APT_CONFIG.
set -euo pipefail

cd "$WORK"
apt-get -qq update
# The package kept an old epoch-less name: 1.20.5+really1.20.2 is 1.20.2. Its Debian revision may move with point releases.
version=$(apt-cache showsrc kubernetes | sed -n "s/^Version: \(.*really$UPSTREAM-.*\)/\1/p" | sort -V | tail -n 1)
[ -n "$version" ] || { echo "no source package of Kubernetes $UPSTREAM on this host's mirrors" >&2; exit 1; }
apt-get -qq source "kubernetes=$version"
mkdir -p gopath/src/k8s.io
mv kubernetes-*/ gopath/src/k8s.io/kubernetes
rm -f kubernetes_*

# The vendored reflect2 crashes with Go >= 1.18 in every JSON encoding; Debian has versions that do not.
apt-get -qq download golang-github-modern-go-reflect2-dev golang-github-json-iterator-go-dev
for deb in *.deb; do dpkg-deb -x "$deb" newer; done
replace() {
	rm -rf "gopath/src/k8s.io/kubernetes/vendor/$1"
	cp -r "newer/usr/share/gocode/src/$1" "gopath/src/k8s.io/kubernetes/vendor/$1"
	find "gopath/src/k8s.io/kubernetes/vendor/$1" -name '*_test.go' -delete
	rm -rf "gopath/src/k8s.io/kubernetes/vendor/$1"/*_tests "gopath/src/k8s.io/kubernetes/vendor/$1/benchmarks"
}
replace github.com/modern-go/reflect2
replace github.com/json-iterator/go

export PATH=/usr/lib/go-1.19/bin:$PATH GOPATH=$WORK/gopath GOCACHE=$WORK/gocache GO111MODULE=off CGO_ENABLED=0
unset GOROOT GOFLAGS
cd gopath/src/k8s.io/kubernetes
# The API server needs OpenAPI definitions that are generated and not in the source package.
make generated_files

# Without the vendored path in front the linker silently ignores a setting, and kubeadm takes itself for v0.0.0.
stamp=k8s.io/kubernetes/vendor/k8s.io/component-base/version
flags="-s -w -X $stamp.gitVersion=v$UPSTREAM -X $stamp.gitMajor=${UPSTREAM%%.*} -X $stamp.gitMinor=$(cut -d. -f2 <<<"$UPSTREAM") -X $stamp.gitTreeState=clean"
for program in kubeadm kubelet kubectl kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
	go build -ldflags "$flags" -o "$OUT/$program" "./cmd/$program"
done
"$OUT/kubeadm" version -o short | grep -qx "v$UPSTREAM"
echo "$version" > "$OUT/SOURCE"
