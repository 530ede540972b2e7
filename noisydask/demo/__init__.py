"""The demo: data whose truth is known, made from what scikit-learn ships."""
