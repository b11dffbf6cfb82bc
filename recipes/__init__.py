"""Recipes: one YAML a set-up, in folders by data set; ``lgn ls`` lists them."""
