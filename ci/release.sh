#!/usr/bin/env bash
# What a stranger would install: sdist and wheel are built and checked, and the wheel is used in empty environments.
#
#     bash ci/release.sh
#
# It ends with status 0 if all is well, and prints the table of docs/releasing.md (build/release/table.md).  Nothing is
# uploaded.  Packages come from the index that pip is set to; some minutes, most of them pip's.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD out=$PWD/build/release
tools=$PWD/build/release-tools
python=${PYTHON:-python3}
unset PYTHONPATH
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
export PIP_DISABLE_PIP_VERSION_CHECK=1

step() { printf '\n== %s\n' "$*"; }

if [[ ! -f $tools/ok ]]; then
  step 'tools'
  "$python" -m venv "$tools"
  "$tools/bin/python" -m pip install --quiet 'build>=1.2' 'twine>=6' 'mypy>=1.15'
  touch "$tools/ok"
fi
if [[ -n $(git status --porcelain 2>/dev/null) ]]; then
  echo 'note: the tree has changes that are not committed; they go into what is built' >&2
fi
rm -rf "$out"
mkdir -p "$out"

step 'build'
# The sdist of the tree, then the wheel of the sdist: so the sdist is known to hold all that a build needs.
"$tools/bin/python" -m build --outdir "$out/dist" .
"$tools/bin/python" -m twine check --strict "$out"/dist/*
wheel=$(echo "$out"/dist/*.whl)
"$python" ci/release_check.py files "$out"/dist/*

step 'the wheel in an empty environment'
"$python" -m venv "$out/core"
"$out/core/bin/python" -m pip install --quiet "$wheel"
"$out/core/bin/python" -m pip check
cd "$out" # so that nothing of the tree is imported
core=$out/core/bin
"$core/xpnn" --version
"$core/python" -I "$root/ci/release_check.py" readme "$root/README.md" --core
"$core/xpnn" train moons --epochs 3 --quiet --out "$out/run" >"$out/train.log"
"$core/xpnn" report "$out/run" --card
"$core/xpnn" gradcheck >"$out/gradcheck.log"
"$core/python" -I "$root/ci/release_check.py" times core >"$out/times-core.json"

step 'types: what mypy --strict sees of the installed package'
cat >"$out/typed.py" <<'END'
import xpnn

net: xpnn.Sequential = xpnn.mlp([2, 8, 2], "tanh", seed=0)
reveal_type(net.n_params)
END
"$tools/bin/python" -m mypy --strict --python-executable "$core/python" "$out/typed.py" | tee "$out/typed.log"
grep -q 'Revealed type is "\(builtins\.\)\?int"' "$out/typed.log"
sed 's/seed=0/seed="0"/' "$out/typed.py" >"$out/wrong.py"
if "$tools/bin/python" -m mypy --strict --python-executable "$core/python" "$out/wrong.py" >"$out/wrong.log"; then
  echo 'mypy takes a seed that is text: the types of the wheel are not seen' >&2
  exit 1
fi

step 'extras, one after the other'
"$python" -m venv "$out/extras"
extras=$out/extras/bin
"$extras/python" -m pip install --quiet "$wheel"
sizes=$("$extras/python" -I "$root/ci/release_check.py" size)
for extra in sklearn plots report fast files onnx; do
  "$extras/python" -m pip install --quiet "$wheel[$extra]"
  sizes+=" $extra=$("$extras/python" -I "$root/ci/release_check.py" size)"
done
"$extras/python" -m pip check
"$extras/python" -I "$root/ci/release_check.py" readme "$root/README.md"
"$extras/xpnn" train digits --epochs 3 --quiet --report --out "$out/digits" >"$out/digits.log"
"$extras/python" -I "$root/ci/release_check.py" times extras >"$out/times-extras.json"

step 'the sdist, unpacked: its own tests of the package'
mkdir "$out/sdist"
tar -xzf "$out"/dist/*.tar.gz -C "$out/sdist" --strip-components 1
cd "$out/sdist"
"$extras/python" -m pip install --quiet 'pytest>=8.3' 'hypothesis>=6.100' 'array-api-strict>=2.6.1'
"$extras/python" -m pytest -q -p no:cacheprovider tests/test_release.py tests/layers/test_layers.py tests/test_config.py

step 'sizes and times'
cd "$out"
# shellcheck disable=SC2086 # sizes are several words
"$extras/python" -I "$root/ci/release_check.py" table "$out" $sizes | tee "$out/table.md"
echo
echo "all is well: $(basename "$wheel") and its sdist lie in build/release/dist"
