"""What every room uses: errors in one sentence, whole files, progress, and what a result's code depends on."""
