"""What every bug and every correct file keeps, ours and those of plugins.

    pytest --pyargs halfhour.generator.contract

tries all that are installed, in any environment. The rules themselves are functions: a mutator or a
subject in, what is wrong with it out, a sentence each that starts with `file:line` or the file.
"""
