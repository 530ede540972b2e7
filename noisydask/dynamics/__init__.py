"""The job on recorded training losses: dense arrays, tables, datasets of Datumaro; and their
recorder.
"""
