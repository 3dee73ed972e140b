"""Writes the sample documents: contracts with known risks, invoices, reports, and files that make trouble.

``python -m tools.sample_docs`` writes the same bytes every time. The contracts' words are the files under
``texts``; ``truth`` says which risk stands on which page.
"""
