"""Words of the length and kind that people and models write: lists, tables, code, other scripts."""

GUIDELINES = """# Helpfulness

Choose the response that **does more for the person who asks**.

1. What is said is true.
2. It answers what was asked, at the length that was asked for.
3. Where both do, the clearer one is better.

> Unsure? Choose *negligibly better*; that is an answer too.
"""
LONG_PROMPT = (
    "My grandmother wrote her recipes for twelve people and I cook for two. How do I scale them "
    "down without ending up with half an egg, and what does not scale at all?"
)
SHORT = "Divide everything by six. For the egg, beat it first and use a part of it."
FLAG = "The first response names a real company and says that its flour is unsafe."
LONG = """Most of a recipe scales, some of it does not.

* **Weights and volumes** scale: divide by six.
* **Eggs**: beat one, weigh it, use what you need. A medium egg is about 50 g.
* **Time and heat** do not: a smaller cake bakes faster, so look in after half the time.

| for twelve | for two |
| --- | --- |
| 900 g flour | 150 g |
| 6 eggs | 1 egg |

Salt and spices: begin with a little *more* than a sixth, then taste."""
CODE = """Here is a function:

```python
def scaled(recipe: dict[str, float], people: int, of: int = 12) -> dict[str, float]:
    return {name: grams * people / of for name, grams in recipe.items()}  # round as you like
```

`scaled({"flour": 900}, 2)` gives `{"flour": 150.0}`."""
ARABIC = "اقسم كل الكميات على ستة، ثم اخفق البيضة وزنها واستعمل ما تحتاج إليه منها."
