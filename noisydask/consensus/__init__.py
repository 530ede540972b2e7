"""The rankings of both jobs become one."""
