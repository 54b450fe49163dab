"""Training of the models that ship with Afterimage: data, objectives, the loop, and the figures on the cards."""
