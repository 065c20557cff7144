"""tasks_test.py QUANTIZE DATA: makes questions in the forms of eight data sets, has `quantize eval --task` and
lm-evaluation-harness answer them with the same models, and compares every figure that both report."""
import json
import math
import os
import pathlib
import random
import subprocess
import sys

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

QUANTIZE, DATA = sys.argv[1], pathlib.Path(sys.argv[2])
TASKS = pathlib.Path(lm_eval.__file__).parent / "tasks"
LETTERS = "ABCDE"

# Our name: the harness's definition, the splits that it takes questions and examples from.
DEFINITIONS = {
    "hellaswag": ("hellaswag/hellaswag.yaml", "validation", "train"),
    "piqa": ("piqa/piqa.yaml", "validation", "train"),
    "arc": ("arc/arc_easy.yaml", "test", "train"),
    "winogrande": ("winogrande/default.yaml", "validation", "train"),
    "boolq": ("super_glue/boolq/default.yaml", "validation", "train"),
    "openbookqa": ("openbookqa/openbookqa.yaml", "test", "train"),
    "mmlu": ("mmlu/default/mmlu_us_foreign_policy.yaml", "test", "dev"),
    "lambada": ("lambada/lambada_openai.yaml", "test", None),
}


class Maker:
    """Questions about a play: the right choice is how the text goes on, others are how it does elsewhere."""

    def __init__(self, text, seed):
        self.words = text.split()
        self.random = random.Random(seed)

    def piece(self, length):
        begin = self.random.randrange(len(self.words) - 40)
        return self.words[begin:begin + length], self.words[begin + length:begin + 40]

    def asked(self, choices):
        context, rest = self.piece(self.random.randint(4, 30))
        right = " ".join(rest[:self.random.randint(1, 9)])
        texts = [" ".join(self.piece(self.random.randint(1, 9))[0]) for _ in range(choices)]
        answer = self.random.randrange(choices)
        texts[answer] = right
        return " ".join(context), texts, answer

    def row(self, task):
        return getattr(self, task)()

    def hellaswag(self):
        context, endings, answer = self.asked(4)
        first, _, second = context.partition(" ")
        ornaments = ["", " [header] Stage left [title] ", "[step] ", " [substeps]  Ça va. ", " [open "]
        return {"ind": self.random.randrange(99), "activity_label": first,
                "ctx_a": self.random.choice(ornaments) + second,
                "ctx_b": self.random.choice(["", "a YOUNG man", "élan and"]),
                "endings": [self.random.choice(ornaments) + e for e in endings], "label": str(answer)}

    def piqa(self):
        goal, (one, two), answer = self.asked(2)
        return {"goal": goal, "sol1": one, "sol2": two, "label": answer}

    def science(self, name, choices):
        question, texts, answer = self.asked(choices)
        labels = list(LETTERS[:choices]) if self.random.random() < 0.7 else list("12345"[:choices])
        return {"id": f"Q_{self.random.randrange(10**9)}", name: question, "choices": {"text": texts, "label": labels},
                "answerKey": labels[answer]}

    def arc(self):
        return self.science("question", self.random.choice([3, 4, 5]))

    def openbookqa(self):
        return self.science("question_stem", 4)

    def winogrande(self):
        context, options, answer = self.asked(2)
        rest = " ".join(self.piece(6)[0])
        return {"sentence": f"{context} _ {rest}.", "option1": options[0], "option2": options[1],
                "answer": str(answer + 1)}

    def boolq(self):
        passage, (question, _), answer = self.asked(2)
        return {"question": question.lower(), "passage": passage, "idx": self.random.randrange(999), "label": answer}

    def mmlu(self):
        question, choices, answer = self.asked(4)
        return {"question": f" {question}\n", "subject": "us_foreign_policy", "choices": choices, "answer": answer}

    def lambada(self):
        context, rest = self.piece(self.random.randint(1, 60))
        return {"text": "\n".join(context[:2]) + " " + " ".join(context[2:] + rest[:2])}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def make_files(folder, text):
    """Two files a task, of questions and of what examples are drawn from; and a definition that reads them."""
    files = {}
    for number, (task, (definition, asked, examples)) in enumerate(DEFINITIONS.items()):
        maker = Maker(text, number)
        splits = {asked: write_rows(folder / f"{task}.jsonl", [maker.row(task) for _ in range(24)])}
        if examples:
            splits[examples] = write_rows(folder / f"{task}_examples.jsonl", [maker.row(task) for _ in range(24)])
        (folder / f"{task}.yaml").write_text(json.dumps({
            "include": str(TASKS / definition), "task": f"local_{task}", "tag": None, "dataset_path": "json",
            "dataset_name": None, "dataset_kwargs": {"data_files": splits}, "validation_split":
            "validation" if "validation" in splits else None, "training_split": "train" if "train" in splits else None}))
        files[task] = splits.get(asked), splits.get(examples)
    return files


def ours(model, task, files, shots, length, more):
    command = [QUANTIZE, "eval", str(model), "--task", files[0], "--json", "--quiet", "--seq-len", str(length), *more]
    if shots:
        command += ["--shots", str(shots)]
        if files[1]:
            command += ["--shots-from", files[1]]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["tasks"][0]
    assert result["task"] == task, result
    return result


def theirs(harness, manager, tasks, shots):
    result = lm_eval.simple_evaluate(
        model=harness, tasks=[f"local_{task}" for task in tasks], task_manager=manager, num_fewshot=shots,
        log_samples=True, bootstrap_iters=2, fewshot_random_seed=1234)
    return {task: (result["results"][f"local_{task}"], result["samples"][f"local_{task}"]) for task in tasks}


def mean_right(task, samples):
    """The mean log likelihood of the right choices."""
    def right(sample):
        if task == "lambada":
            return 0
        if task == "winogrande":
            return int(sample["doc"]["answer"]) - 1
        return int(sample["target"]) if str(sample["target"]).isdigit() else int(sample["doc"].get("gold"))
    return math.fsum(float(s["filtered_resps"][right(s)][0]) for s in samples) / len(samples)


def compare(name, ours_, theirs_, samples, task):
    known = {"acc,none": "acc", "acc_stderr,none": "acc_stderr", "acc_norm,none": "acc_norm",
             "acc_norm_stderr,none": "acc_norm_stderr"}
    for key, own in known.items():
        if key in theirs_ and theirs_[key] != ours_.get(own):
            sys.exit(f"{name}: {own} is {ours_.get(own)}, the harness's {theirs_[key]}")
    if ("acc_norm,none" in theirs_) != ("acc_norm" in ours_):
        sys.exit(f"{name}: one of both reports acc_norm")
    pairs = [("mean_log_likelihood", mean_right(task, samples))]
    if task == "lambada":
        pairs.append(("perplexity", theirs_["perplexity,none"]))
    for own, expected in pairs:
        if not math.isclose(ours_[own], expected, rel_tol=1e-5):
            sys.exit(f"{name}: {own} is {ours_[own]}, the harness's {expected}")
    print(f"{name}: acc {ours_['acc']:.4f}, acc_norm {ours_.get('acc_norm', math.nan):.4f}, mean log likelihood "
          f"{ours_['mean_log_likelihood']:.6f}, as in the harness", flush=True)


def main():
    folder = pathlib.Path("questions").absolute()
    folder.mkdir()
    files = make_files(folder, (DATA / "shakespeare-eval.txt").read_text(encoding="utf-8"))
    manager = TaskManager(include_path=str(folder))
    models = [DATA / "llama-1m"]
    others = os.environ.get("PTQ_MODELS_DIR")
    for name in ("mamba-1m", "stories260k"):
        if others and (pathlib.Path(others) / name / "config.json").exists():
            models.append(pathlib.Path(others) / name)
    for model in models:
        for shots, length in ((0, 512), (3, 512), (2, 48)):
            harness = HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=8, max_length=length)
            # Of LAMBADA the harness may draw the question itself as an example.
            tasks = [task for task in DEFINITIONS if shots == 0 or files[task][1]]
            results = theirs(harness, manager, tasks, shots)
            for task in tasks:
                own = ours(model, task, files[task], shots, length, [])
                compare(f"{model.name}, {task}, {shots} shots, {length} tokens", own, *results[task], task)


main()
