#!/usr/bin/env python3
"""Holds `eval --choices` and `--last-word` to lm-evaluation-harness: the same scores from the same log-likelihoods.

    python3 tests/peers/peer_choices.py --work DIR --model RUN --choices FILE.jsonl [--program build/bin/rwkvx]

Not part of the default tests: it installs lm_eval from PyPI into DIR. The program scores FILE (lines with
prompt, choices and answer) with the model; then the package's own task and evaluator run over the same
file, with a model that answers each request with the program's log-likelihood of that choice. The same for the last
words of the prompts with their answers, as a task like the package's lambada_openai.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDED = ["torch==2.13.0", "lm_eval==0.4.13"]
METRICS = ["acc", "acc_norm", "acc_bytes", "exact_match", "brier_score"]
# Run by the environment's Python with the folder as argument; prints the package's scores.
HARNESS = r"""
import json, sys
from pathlib import Path
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate

work = Path(sys.argv[1])
outcomes = [json.loads(line) for line in open(work / "outcomes.jsonl")]
words = [json.loads(line) for line in open(work / "words.jsonl")]
texts = [json.loads(line)["text"] for line in open(work / "texts.jsonl")]

class Given(LM):
    def loglikelihood(self, requests, disable_tqdm=False):
        return [(outcomes[r.doc_id]["logprobs"][r.idx], outcomes[r.doc_id]["greedy"][r.idx]) for r in requests]
    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError
    def generate_until(self, requests, disable_tqdm=False):
        raise NotImplementedError

metrics = json.loads(sys.argv[2])
task = ConfigurableTask(config={
    "task": "given", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(work / "items.jsonl")}},
    "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "prompt", "doc_to_choice": "choices",
    "doc_to_target": "answer", "target_delimiter": "",
    "metric_list": [{"metric": m} for m in metrics]})
found = evaluate(lm=Given(), task_dict={"given": task}, bootstrap_iters=0)["results"]["given"]
result = {m: float(found[m + ",none"]) for m in metrics}

class LastWords(Given):
    def loglikelihood(self, requests, disable_tqdm=False):
        for r in requests:
            assert r.args[0] + r.args[1] == texts[r.doc_id]
        return [(words[r.doc_id]["logprobs"][0], words[r.doc_id]["greedy"][0]) for r in requests]

task = ConfigurableTask(config={
    "task": "last", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(work / "texts.jsonl")}},
    "test_split": "test", "output_type": "loglikelihood",
    "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}", "doc_to_target": "{{' '+text.split(' ')[-1]}}",
    "metric_list": [{"metric": "perplexity", "aggregation": "perplexity"}, {"metric": "acc", "aggregation": "mean"}]})
found = evaluate(lm=LastWords(), task_dict={"last": task}, bootstrap_iters=0)["results"]["last"]
result |= {"last word " + m: float(found[m + ",none"]) for m in ("acc", "perplexity")}
print(json.dumps(result))
"""


def run(*command):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--choices", type=Path, required=True)
    parser.add_argument("--program", default=ROOT / "build/bin/rwkvx")
    options = parser.parse_args()
    work = options.work.resolve()
    python = work / "venv/bin/python"
    if not python.exists():
        run(sys.executable, "-m", "venv", work / "venv")
        for package in NEEDED:  # torch first, so that no other build of it comes along
            run(python, "-m", "pip", "install", "-q", package)
    (work / "items.jsonl").write_bytes(options.choices.read_bytes())
    found = json.loads(run(options.program, "eval", "--model", options.model, "--choices", work / "items.jsonl",
                           "--per-sample", work / "outcomes.jsonl", "--quiet"))
    with open(options.choices) as lines, open(work / "texts.jsonl", "w") as texts:
        for item in map(json.loads, lines):
            texts.write(json.dumps({"text": item["prompt"] + item["choices"][item["answer"]]}) + "\n")
    last = json.loads(run(options.program, "eval", "--model", options.model, "--prompts", work / "texts.jsonl",
                          "--last-word", "--per-sample", work / "words.jsonl", "--quiet"))
    scores = {metric: found["scores"][metric]["score"] for metric in METRICS}
    scores |= {"last word acc": last["acc"]["score"], "last word perplexity": last["word_perplexity"]}
    peer = json.loads(run(python, "-c", HARNESS, work, json.dumps(METRICS)).splitlines()[-1])
    worst = 0
    print(f"{found['n']} items")
    for metric, ours in scores.items():
        worst = max(worst, abs(ours - peer[metric]))
        print(f"{metric:20} rwkvx {ours:.15f}  lm_eval {peer[metric]:.15f}  difference {abs(ours - peer[metric]):.1e}")
    print("PASS: equal to 1e-12" if worst <= 1e-12 else "FAIL")
    return worst > 1e-12


if __name__ == "__main__":
    sys.exit(main())
