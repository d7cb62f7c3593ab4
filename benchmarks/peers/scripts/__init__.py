"""What each tool runs: `python SCRIPT SOURCE ADDRESS FOLDER`, in an environment that has this tool only."""
