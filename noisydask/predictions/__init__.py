"""Predictions written as arrays that suit the job: converted from what there is."""
