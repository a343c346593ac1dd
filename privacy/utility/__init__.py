"""How useful a model is, for whom, and how surely that is known: from the counts that an evaluation opened."""
