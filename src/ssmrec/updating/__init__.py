"""An earlier run and new data: one training that goes on from there."""
