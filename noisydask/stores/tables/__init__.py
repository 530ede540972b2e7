"""Tables in files, read in place by their own pieces: row groups, record batches, ranges of bytes.

A format (:mod:`parquet_format`, :mod:`csv_format`, :mod:`arrow_format`) tells which pieces a file
has and reads columns of one. :mod:`table_files` is all files of a table; its columns become rows of
numbers: one column (:mod:`table_column`), or a column a class (:mod:`table_matrix`).
"""
