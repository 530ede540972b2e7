"""Predictions as arrays that suit the job: converted, or written as a model makes them."""
