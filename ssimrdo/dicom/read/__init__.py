"""Finding CT series and reading their headers and pixels."""
