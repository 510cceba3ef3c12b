"""What scores say of each code, in numbers and in words."""

from betavae.scoring import carried_factors, carrier_phrases, strengths


def test_strengths_are_shares_of_entropy():
    scores = {
        "carriers": [
            {"factor": "posX", "kind": "spread", "codes": [1, 0], "strength": 0.5},
            {"factor": "shape", "kind": "carried", "codes": [1], "strength": 0.8},
            {"factor": "scale", "kind": "not found", "codes": [], "strength": 0.01},
        ],
        "arrays": {"mig.mutual_information": [[0.6, 0, 0], [1.0, 0.8, 0]], "mig.factor_entropy": [2.0, 1.0, 1.0]},
    }
    assert strengths(scores, 3) == [[("posX", 0.3)], [("shape", 0.8), ("posX", 0.5)], []]
    assert strengths({}, 2) == [[], []]


def test_words():
    scores = {
        "carriers": [
            {"factor": "posX", "kind": "carried", "codes": [1], "strength": 0.9},
            {"factor": "scale", "kind": "spread", "codes": [1, 0], "strength": 0.4},
        ]
    }
    assert carried_factors(scores, 3) == ["scale", "posX, scale", ""]
    assert carrier_phrases(scores) == ["posX: z1 (90 %)", "scale: spread over z1 and z0 (40 %)"]
