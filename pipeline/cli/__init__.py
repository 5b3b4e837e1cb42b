"""The console command `livelist`: one file per command, each a thin call of the packages' own functions."""
