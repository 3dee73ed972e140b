"""What opening and cutting does to PDFs of any folder, and to broken ones made at random: see ``docs/corpus.md``.

::

    __main__ ── table                           what is printed
      ├── examination ── findings               files of a folder, through the sandbox of the program
      │     └── by_pypdf, by_pdfium             second opinions, in a sandbox of their own
      └── trials ── mutations ── originals      files broken at random
"""
