#!/usr/bin/env bash
# Trains a small character-level GPT on the King James text for about three minutes, with gradient
# accumulation, and then shows one cycle computed with 1, 2, 4 and 8 micro-batches side by side.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat << END
usage: scripts/demo.sh [--steps N] [--help]

  --steps N   training steps (default: as many as fit into three minutes here)

Installs what is missing, builds, prepares the text and trains. Everything it makes lies in
build/demo/: text.txt, log.jsonl (one line per step), checkpoint/, result.json.
END
}

steps=
while [ $# -gt 0 ]; do
  case "$1" in
    --steps) steps=${2:-}; shift 2 2> /dev/null || shift ;;
    --help | -h) usage; exit 0 ;;
    *) echo "demo.sh does not know $1" >&2; usage >&2; exit 2 ;;
  esac
  if ! [[ $steps =~ ^[1-9][0-9]*$ ]]; then
    echo "--steps expects a whole number above zero, got '$steps'" >&2
    exit 2
  fi
done

demo=build/demo
text=$demo/text.txt
micro_batch=6 effective_batch=24 context=64 seconds=180
say() { printf '\n== %s\n' "$*" >&2; }

make_text() {
  local new=$text.new
  if command -v bible > /dev/null && bible -f gen1:1-rev22:21 < /dev/null > "$new.verses"; then
    sed -E 's/^[0-9]?[A-Za-z]+[0-9]+:[0-9]+ //' "$new.verses" > "$new"
    rm "$new.verses"
    # The whole text has 31,102 verses and 4.1 million characters; less means it was cut short.
    if [ "$(wc -l < "$new")" -ge 31000 ] && [ "$(wc -c < "$new")" -ge 4000000 ]; then
      mv "$new" "$text"
      return
    fi
  fi
  rm -f "$new.verses"
  say "The King James text cannot be had here: training on this project's sources and docs instead"
  find . -path ./build -prune -o -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.md' \) -print0 |
    LC_ALL=C sort -z | xargs -0 cat > "$new"
  mv "$new" "$text"
}

train() {  # train STEPS [OPTION…]: progress on stderr, the result as the last line on stdout
  local count=$1
  shift
  build/bin/train_gpt --data "$text" --tokenizer char --layers 4 --heads 4 --width 128 \
    --context $context --micro-batch $micro_batch --effective-batch $effective_batch \
    --steps "$count" --lr 2e-3 --min-lr 2e-4 --weight-decay 0.1 --clip 1 --seed 1 "$@"
}

steps_that_fit() {  # from the speed of a short run
  train 20 --eval-interval 20 --eval-batches 1 | tail -n 1 | python3 -c "
import json, sys
rate = json.load(sys.stdin)['tokens_per_second']
print(max(50, round($seconds * rate / ($effective_batch * $context))))"
}

if [ "${ACCRUE_SKIP_SETUP:-0}" != 1 ]; then
  say "Packages"
  scripts/setup.sh
  scripts/setup.sh text || true  # make_text has something to fall back on
fi

say "Build"
cmake --preset release > /dev/null
cmake --build --preset release --target train_gpt one_cycle

mkdir -p $demo
make_text
say "Text: $text, $(wc -c < $text) characters, $(tr -cd '\n' < $text | wc -c) lines"
head -n 3 $text | cut -c 1-100 >&2

if [ -z "$steps" ]; then
  say "Measuring the speed"
  steps=$(steps_that_fit)
fi
say "Training: $steps steps of $effective_batch sequences, $micro_batch at a time"
rm -rf $demo/checkpoint $demo/log.jsonl $demo/result.json $demo/one_cycle.txt
interval=$((steps > 8 ? steps / 8 : 1))
train "$steps" --warmup $((steps / 20)) --eval-interval $interval --eval-batches 20 --sample 500 \
  --log $demo/log.jsonl --checkpoint $demo/checkpoint --checkpoint-interval $interval |
  tee $demo/output.txt || { status=$?; say "Stopped: run scripts/demo.sh again to start over" ; exit $status; }
tail -n 1 $demo/output.txt > $demo/result.json

say "One cycle, computed with 1, 2, 4 and 8 micro-batches"
echo "A model that has not been trained; times are of this moment, on this machine. Where other programs"
echo "are busy, threads wait for each other and small micro-batches suffer most: try --threads 1."
build/bin/one_cycle --data $text | tee $demo/one_cycle.txt | head -n -1  # the last line is for programs

say "Done. Log, checkpoint and results lie in $demo/"
cat >&2 << END
Next: docs/tutorial/01-one-cycle-by-hand.md, which needs the other programs as well:
  cmake --build --preset release
or train on: build/bin/train_gpt --help; the text is $text
END
