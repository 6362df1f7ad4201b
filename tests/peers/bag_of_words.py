#!/usr/bin/env python3
"""A bag of words beside the models: scikit-learn's logistic regression on the words of the prompts.

  bag_of_words.py TRAIN.jsonl TEST.jsonl

Reads lines as `rwkvx eval --choices` does (prompt, choices, answer: an index), all with the same choices,
and prints the test accuracy of a regression on words and pairs of words, chosen by cross-validation
on the training part, with its 95 % Wilson interval, and that of the most frequent answer.
Needs scikit-learn (pip install scikit-learn).
"""
import json
import math
import sys
from collections import Counter

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline


def read(path):
    lines = [json.loads(line) for line in open(path, encoding="utf-8") if line.strip()]
    return [line["prompt"] for line in lines], [line["answer"] for line in lines]


def wilson(right, n, z=1.959963984540054):
    share = right / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    (train, train_answers), (test, test_answers) = read(sys.argv[1]), read(sys.argv[2])
    model = GridSearchCV(
        make_pipeline(TfidfVectorizer(token_pattern=r"\S+", sublinear_tf=True),
                      LogisticRegression(max_iter=2000)),
        {"tfidfvectorizer__ngram_range": [(1, 1), (1, 2)], "logisticregression__C": [1, 10, 100]}, cv=5)
    model.fit(train, train_answers)
    right = sum(int(a == b) for a, b in zip(model.predict(test), test_answers))
    most = Counter(train_answers).most_common(1)[0][0]
    frequent = sum(int(answer == most) for answer in test_answers)
    for name, count in [(f"words and pairs {model.best_params_}", right), ("most frequent answer", frequent)]:
        low, high = wilson(count, len(test))
        print(f"{name}: {100 * count / len(test):.1f} %, 95 % [{100 * low:.1f}, {100 * high:.1f}]")


if __name__ == "__main__":
    main()
