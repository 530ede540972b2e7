"""What is computed, and nothing of where it lies or who computes it: pure functions of integers and
NumPy arrays.
"""
