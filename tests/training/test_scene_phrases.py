"""Phrases are put into words of a closed list, and say all that they mean."""

from random import Random

from napari_virst.training.scene_fact_words import FACTS
from napari_virst.training.scene_nouns import NOUNS, RELATIONS, SUPERLATIVES
from napari_virst.training.scene_phrases import Phrase, say, vocabulary


def test_every_wording_uses_only_the_vocabulary():
    words, rng = set(vocabulary()), Random(0)
    phrases = [Phrase(noun, (fact,), plural=plural) for noun in NOUNS for fact in FACTS for plural in (False, True)]
    phrases += [Phrase("any", superlative=superlative) for superlative in SUPERLATIVES]
    for phrase in phrases:
        for _ in range(4):
            assert set(say(rng, phrase, num_meant=2).split()) <= words


def test_every_relation_puts_its_landmark_into_words():
    rng = Random(0)
    for relation, links in RELATIONS.items():
        texts = {say(rng, Phrase("star", relation=relation, other=Phrase("ring"))) for _ in range(60)}
        assert not any("{" in text for text in texts)
        assert all("star" in text for text in texts)
        assert len(texts) > len(links)
